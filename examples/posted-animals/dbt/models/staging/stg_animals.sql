-- The animals with what is known of their species. Where animals are posted, the source is these.
select
    a.name,
    a.species,
    coalesce(a.keeper, 'nobody') as keeper,
    a.grams / 1000 as kilograms,
    s.diet,
    s.typical_kilograms,
    s.feed_grams_per_kilogram
from {{ source('zoo', 'animals') }} as a
left join {{ ref('species') }} as s on s.species = a.species
