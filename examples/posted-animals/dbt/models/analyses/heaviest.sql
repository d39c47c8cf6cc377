select name, species, kilograms
from {{ ref('stg_animals') }}
order by kilograms desc, name
limit 3
