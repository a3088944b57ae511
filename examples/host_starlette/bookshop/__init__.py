"""A bookshop whose members write reviews."""
