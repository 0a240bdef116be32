DELETE FROM shop.customers WHERE id = %(customer)s AND guest
