INSERT INTO shop.events (customer_id, kind, detail)
VALUES (%(customer)s, %(kind)s, jsonb_build_object('kind', %(kind)s::text, 'page', %(page)s::int))
