"""What a person sees on a terminal, in a pipe or in a file: tables and progress bars."""
