ALTER TABLE shop.events ADD CONSTRAINT events_pkey PRIMARY KEY (id);
SELECT setval(pg_get_serial_sequence('shop.events', 'id'), max(id)) FROM shop.events;
