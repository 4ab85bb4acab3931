"""The one door to the internals of Faust and aiokafka: one class per fault of theirs."""
