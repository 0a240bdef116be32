SELECT id, full_name FROM shop.customers WHERE lower(email) = lower(%(email)s)
