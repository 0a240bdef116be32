INSERT INTO shop.payments (order_id, method, amount_cents) VALUES (%(order)s, 'card', %(total)s)
