"""`afterclick demo`: a generated shop, a real worker on embedded servers, and a screen to watch them."""
