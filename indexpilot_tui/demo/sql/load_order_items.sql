-- Some products sell better than others: the exponent bends the even distribution a little.
INSERT INTO shop.order_items (id, order_id, product_id, quantity, unit_price_cents)
SELECT n,
       ceil(n::float8 * %(orders)s::bigint / %(items)s::bigint)::bigint,
       1 + floor(%(products)s::bigint * power(random(), 1.3))::bigint,
       1 + floor(random() * 4)::int,
       199 + floor(random() * 20000)::int
FROM generate_series(1, %(items)s::bigint) AS n
