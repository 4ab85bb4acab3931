"""The worker process: Faust apps for its tiers, health, probes, log and end."""
