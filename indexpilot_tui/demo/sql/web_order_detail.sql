SELECT p.name, i.quantity, i.unit_price_cents FROM shop.order_items AS i
JOIN shop.products AS p ON p.id = i.product_id WHERE i.order_id = %(order)s
