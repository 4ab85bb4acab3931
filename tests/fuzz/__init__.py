"""Fuzzing: every decoder of foreign bytes, on inputs that hypothesis or atheris make; run by `make fuzz`."""
