-- Planted trouble: somebody wanted unique addresses, two spellings of one were in the way, and the index stayed INVALID.
CREATE UNIQUE INDEX CONCURRENTLY customers_email_key ON shop.customers (lower(email))
