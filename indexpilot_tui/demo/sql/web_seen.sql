UPDATE shop.customers SET last_seen_at = now() WHERE id = %(customer)s
