SELECT id, reference, status, total_cents, placed_at FROM shop.orders
WHERE customer_id = %(customer)s ORDER BY placed_at DESC LIMIT 10
