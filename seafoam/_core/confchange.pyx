"""Membership and its changes; confchange.pxd has the rules, numbered as cited here."""

from seafoam._core.quorum cimport distinct_ids, joint_index, joint_result

from seafoam.errors import ConfigurationRefused

cdef dict KINDS = {"v": CHANGE_VOTER, "l": CHANGE_LEARNER, "r": CHANGE_REMOVE, "u": CHANGE_UPDATE}
cdef int ID_DIGITS_MAX = 20
cdef object ID_MAX = 2**64 - 1


cpdef list parse_changes(str changes):
    """What "v1 l2 r3 u4" asks for (add voter, add learner, remove, update), as (kind, id)."""
    cdef list parsed = []
    cdef str word, digits
    if changes is None:
        raise TypeError("changes are text")
    for word in changes.split(" "):
        if not word:
            continue
        kind, digits = KINDS.get(word[0]), word[1:]
        if (kind is None or not (digits.isascii() and digits.isdigit())
                or len(digits) > ID_DIGITS_MAX or int(digits) > ID_MAX):
            raise ConfigurationRefused(
                f"{word[:32]!r} is no change: those are v, l, r or u and a node's decimal id")
        parsed.append((kind, int(digits)))
    return parsed


cdef class Configuration:
    """The voters and learners of a cluster. Empty without arguments, where a cluster begins.

    The arguments are iterables of ids and a flag, and make any configuration there can be, such as
    one that a snapshot recorded.
    """

    def __cinit__(self, voters=(), voters_outgoing=(), learners=(), learners_next=(),
                  bint auto_leave=False):
        self.voters = distinct_ids(voters)
        self.voters_outgoing = distinct_ids(voters_outgoing)
        self.learners = distinct_ids(learners)
        self.learners_next = distinct_ids(learners_next)
        self.auto_leave = auto_leave
        self.is_joint = len(self.voters_outgoing) > 0
        self._check()

    cdef _check(self):
        if 0 in self.voters + self.voters_outgoing + self.learners:
            raise ConfigurationRefused("no node has the id 0")
        for id_ in self.learners:
            if self.is_voter(id_):
                raise ConfigurationRefused(f"node {id_} cannot be a voter and a learner")
        for id_ in self.learners_next:
            if id_ not in self.voters_outgoing or id_ in self.voters:
                raise ConfigurationRefused(
                    f"node {id_} cannot wait to become a learner: it votes on the new side, or "
                    f"does not vote on the old one")
        if not self.voters and (self.is_joint or self.learners):
            raise ConfigurationRefused("the configuration has no voter")
        if self.auto_leave and not self.is_joint:
            raise ConfigurationRefused("what is not joint is not left")

    # -- change -----------------------------------------------------------------------------------

    cpdef Configuration simple(self, str changes):
        """With changes that move one voter at most, and any number of learners."""
        return self.apply_simple(parse_changes(changes))

    cpdef Configuration enter_joint(self, bint auto_leave, str changes):
        """Joint, with any changes made to the new side; the old one is as this one was."""
        return self.apply_joint(auto_leave, parse_changes(changes))

    cpdef Configuration leave_joint(self):
        """With the new side alone; who waited to become a learner is one."""
        if not self.is_joint:
            raise ConfigurationRefused("the configuration is not joint")
        return self._changed([], (), False)

    cpdef Configuration apply_simple(self, list changes):
        """As `simple`, with changes as (kind, id)."""
        if self.is_joint:
            raise ConfigurationRefused("a joint configuration takes no simple change")
        cdef Configuration after = self._changed(changes, (), False)
        moved = len(set(self.voters) ^ set(after.voters))
        if moved > 1:
            raise ConfigurationRefused(
                f"a simple change moves one voter at most, this one {moved}")
        return after

    cpdef Configuration apply_joint(self, bint auto_leave, list changes):
        """As `enter_joint`, with changes as (kind, id)."""
        if self.is_joint:
            raise ConfigurationRefused("the configuration is joint already")
        if not self.voters:
            raise ConfigurationRefused("a configuration without voters cannot become joint")
        return self._changed(changes, self.voters, auto_leave)

    cdef Configuration _changed(self, list changes, tuple voters_outgoing, bint auto_leave):
        """The configuration after `changes`, with these voters on its old side.

        A change says whether a node is to vote, to learn, or to go. Where a learner stands follows
        from the old side: it waits while it votes there (I2). Leaving thus needs no rule of its
        own: it is no change, with nobody on the old side.
        """
        cdef dict wanted = dict.fromkeys(self.voters, CHANGE_VOTER)
        wanted.update(dict.fromkeys(self.learners + self.learners_next, CHANGE_LEARNER))
        for kind, id_ in changes:
            if kind not in (CHANGE_VOTER, CHANGE_LEARNER, CHANGE_REMOVE, CHANGE_UPDATE):
                raise ConfigurationRefused(f"there is no change of kind {kind}")
            if id_ == 0 or kind == CHANGE_UPDATE:
                continue
            if kind == CHANGE_REMOVE:
                wanted.pop(id_, None)
            else:
                wanted[id_] = kind
        voters = [id_ for id_, kind in wanted.items() if kind == CHANGE_VOTER]
        learners = [id_ for id_, kind in wanted.items() if kind == CHANGE_LEARNER]
        if not voters:
            raise ConfigurationRefused("the change leaves no voter")
        return Configuration(
            voters, voters_outgoing,
            [id_ for id_ in learners if id_ not in voters_outgoing],
            [id_ for id_ in learners if id_ in voters_outgoing], auto_leave)

    # -- ask --------------------------------------------------------------------------------------

    cpdef bint is_voter(self, uint64_t id_):
        """Whether it votes, on either side."""
        return id_ in self.voters or id_ in self.voters_outgoing

    cpdef bint is_learner(self, uint64_t id_):
        """Whether it learns and does not vote."""
        return id_ in self.learners

    cpdef bint is_member(self, uint64_t id_):
        """Whether it votes or learns."""
        return self.is_voter(id_) or self.is_learner(id_)

    cpdef tuple voter_ids(self):
        """The voters of both sides, sorted."""
        return distinct_ids(self.voters + self.voters_outgoing)

    cpdef tuple member_ids(self):
        """All voters and learners, sorted."""
        return distinct_ids(self.voters + self.voters_outgoing + self.learners)

    # -- decide -----------------------------------------------------------------------------------

    cpdef object committed_index(self, dict acked):
        """As `seafoam._core.quorum.committed_index`, of this configuration's two sides."""
        return joint_index(self.voters, self.voters_outgoing, acked)

    cpdef str vote_result(self, dict votes):
        """As `seafoam._core.quorum.vote_result`, of this configuration's two sides."""
        return joint_result(self.voters, self.voters_outgoing, votes)

    # -- a value ----------------------------------------------------------------------------------

    cdef tuple _key(self):
        return (self.voters, self.voters_outgoing, self.learners, self.learners_next,
                self.auto_leave)

    def __eq__(self, other):
        if not isinstance(other, Configuration):
            return NotImplemented
        return self._key() == (<Configuration>other)._key()

    def __hash__(self):
        return hash(self._key())

    def __str__(self):
        text = f"voters={notation(self.voters)}"
        if self.is_joint:
            text += f"&&{notation(self.voters_outgoing)}"
        if self.learners:
            text += f" learners={notation(self.learners)}"
        if self.learners_next:
            text += f" learners_next={notation(self.learners_next)}"
        return text + " autoleave" if self.auto_leave else text

    def __repr__(self):
        return f"Configuration({self})"


cdef str notation(tuple ids):
    return f"({' '.join([str(id_) for id_ in ids])})"
