SELECT id, customer_id, placed_at FROM shop.orders WHERE status = %(status)s ORDER BY placed_at LIMIT 20
