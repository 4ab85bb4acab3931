"""A generated month: items that appear day by day, and people who come, read lists, click, buy, and stay or leave."""
