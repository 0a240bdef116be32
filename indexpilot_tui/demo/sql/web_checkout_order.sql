INSERT INTO shop.orders (customer_id, reference, status, total_cents, ship_to)
VALUES (%(customer)s, %(reference)s, 'pending', %(total)s, %(ship_to)s) RETURNING id
