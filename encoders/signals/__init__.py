"""What a user's events say beyond the interest: how satisfied the user is, and what was taken back."""
