select species, count(*) as animals, round(sum(kilograms), 1) as kilograms, round(avg(kilograms), 1) as mean_kilograms
from {{ ref('stg_animals') }}
group by species
