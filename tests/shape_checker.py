"""The type checker that pytest hands to jaxtyping: beartype, with an int standing for a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
