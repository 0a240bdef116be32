INSERT INTO shop.customers (email, full_name, country, guest) VALUES (%(email)s, 'Guest', 'DE', true) RETURNING id
