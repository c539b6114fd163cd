"""Changes to header fields that pass through an edge, and the fields that no site may change."""

from msgspec import Struct

from nearmile.config.network import FieldRules
from nearmile.http.fields import Pairs


class Edit(Struct, frozen=True):
    """Applied again, an edit changes nothing more: a response may pass several servers of the network."""

    gone: frozenset[bytes] = frozenset()
    added: Pairs = ()

    def apply(self, pairs: Pairs) -> Pairs:
        """The fields as they go on."""
        if not self.gone:
            return pairs
        return (*(pair for pair in pairs if pair[0] not in self.gone), *self.added)


NO_EDIT = Edit()


def edit_of(rules: FieldRules) -> Edit:
    """What a site's document asks for; names in lower case, as everywhere on the inside."""
    added = tuple((name.lower().encode(), value.encode()) for name, value in rules.set.items())
    return Edit(
        frozenset((*(name for name, _ in added), *(name.lower().encode() for name in rules.remove))), added
    )
