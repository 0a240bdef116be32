SELECT id, name, price_cents, stock FROM shop.products WHERE id = %(product)s
