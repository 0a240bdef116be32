-- Nearly all orders are done; the queries look for the few that are not.
INSERT INTO shop.orders (id, customer_id, reference, status, total_cents, ship_to, placed_at)
SELECT n,
       1 + floor(%(customers)s::bigint * random())::bigint,
       'SO-' || lpad(n::text, 9, '0'),
       CASE WHEN dice < 0.006 THEN 'pending' WHEN dice < 0.008 THEN 'returned' WHEN dice < 0.010 THEN 'failed' ELSE 'done' END,
       500 + floor(dice * 30000)::int,
       'Street ' || mod(n, 997) || ', Town ' || mod(n, 89),
       now() - interval '2 years' * (1 - n::float8 / %(orders)s::bigint)
FROM (SELECT n, random() AS dice FROM generate_series(1, %(orders)s::bigint) AS n) AS one
