-- The posted animals with what is known of their species.
-- `animals` has neither ref() nor source(): these write the name of the database before it, and then it would mean
-- the empty table and never the rows of a request.
select
    a.name,
    a.species,
    coalesce(a.keeper, 'nobody') as keeper,
    a.grams / 1000 as kilograms,
    s.diet,
    s.typical_kilograms,
    s.feed_grams_per_kilogram
from animals as a
left join {{ ref('species') }} as s on s.species = a.species
