"""Measures, protocols and judges of lists, and the baselines they are compared with."""
