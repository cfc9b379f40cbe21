"""Slots as they are stored: the names of their type and role."""

from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.keys import KeyType

SLOT_NAMES = {
    Slot(key_type, role): (key_type.name, role.name) for key_type in KeyType for role in Role
}
"""Each slot's type and role by name."""

SLOTS_NAMED = {names: slot for slot, names in SLOT_NAMES.items()}
"""Each slot by the names of its type and role."""
