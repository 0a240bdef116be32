UPDATE shop.orders SET status = 'done' WHERE id = ANY(%(orders)s)
