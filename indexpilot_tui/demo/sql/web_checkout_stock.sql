UPDATE shop.products SET stock = CASE WHEN stock <= %(quantity)s THEN 500 ELSE stock - %(quantity)s END
WHERE id = %(product)s
