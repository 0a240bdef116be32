-- How far the steps of a change on a partitioned table have come.
SELECT p.position, p.state, p.index_oid FROM indexpilot.change_parts p WHERE p.change_id = %(id)s ORDER BY p.position
