"""What users wish of their lists, in their own words: a small grammar, and what a wish does to candidates."""
