SELECT count(*) AS orders, sum(quantity) AS pieces, sum(quantity * unit_price_cents) AS revenue_cents
FROM shop.order_items WHERE product_id = %(product)s
