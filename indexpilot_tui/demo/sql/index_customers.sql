ALTER TABLE shop.customers ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
ALTER TABLE shop.products ADD CONSTRAINT products_pkey PRIMARY KEY (id);
ALTER TABLE shop.products ADD CONSTRAINT products_sku_key UNIQUE (sku);
SELECT setval(pg_get_serial_sequence('shop.customers', 'id'), max(id)) FROM shop.customers;
SELECT setval(pg_get_serial_sequence('shop.products', 'id'), max(id)) FROM shop.products;
