select coalesce(diet, 'unknown') as diet, count(*) as animals, count(distinct species) as species
from {{ ref('stg_animals') }}
group by 1
