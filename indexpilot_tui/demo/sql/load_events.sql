INSERT INTO shop.events (id, customer_id, kind, detail, happened_at)
SELECT n,
       1 + floor(%(customers)s::bigint * random())::bigint,
       kind,
       jsonb_build_object('kind', kind, 'page', mod(n, 113)),
       now() - interval '90 days' * (1 - n::float8 / %(events)s::bigint)
FROM (
    SELECT n, (ARRAY['view', 'view', 'view', 'search', 'basket', 'login'])[1 + floor(random() * 6)::int] AS kind
    FROM generate_series(1, %(events)s::bigint) AS n
) AS one
