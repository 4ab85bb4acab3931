"""The one door to the internals of Faust and aiokafka: one class per fault of theirs.

Every private or undocumented name of theirs that this project touches is touched here, and listed in
`tests/contract/test_faust_internals.py`, which fails where a new release of theirs has changed it.
"""
