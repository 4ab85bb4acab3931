"""Generated worlds, one for each profile of settings: what is published, what people do, and what they want next."""
