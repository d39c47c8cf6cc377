select species, round(sum(kilograms * feed_grams_per_kilogram) / 1000, 2) as feed_kilograms
from {{ ref('stg_animals') }}
where feed_grams_per_kilogram is not null
group by species
