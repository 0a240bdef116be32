INSERT INTO shop.order_items (order_id, product_id, quantity, unit_price_cents)
VALUES (%(order)s, %(product)s, %(quantity)s, %(price)s)
