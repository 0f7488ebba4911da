from minikafka.core.replication.parked import ParkedProduces


def test_requests_are_settled_in_the_order_of_what_they_wait_for():
    parked = ParkedProduces()
    second, third = parked.park("second", 2), parked.park("third", 3)
    first = parked.park("first, again", 1)
    assert list(parked.settle_up_to(0)) == []
    assert list(parked.settle_up_to(2)) == [first, second]
    assert (first.settled, second.settled, third.settled) == (True, True, False)
    assert list(parked) == [third]


def test_who_was_given_up_is_not_settled_again():
    parked = ParkedProduces()
    requests = [parked.park(number, number) for number in (1, 2, 3)]
    requests[1].settled = True
    assert list(parked.settle_up_to(2)) == [requests[0]]
    requests[2].settled = True
    assert parked.settle_all() == []
    assert not parked


def test_who_was_given_up_at_the_head_leaves_no_trace_when_another_parks():
    parked = ParkedProduces()
    parked.park("given up", 1).settled = True
    last = parked.park("last", 1)
    assert list(parked) == [last]
    assert parked.settle_all() == [last]
    assert last.settled
