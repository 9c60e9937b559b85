package main

import (
	"cmp"
	"slices"
)

// timeline is a key's history as the frontier search walks it: calls and returns one after the other, and
// at each moment which operations are open, by what they want and what they do. It can be walked
// backwards as well.
type timeline struct {
	items  []item
	l      *local
	events []moment
	at     int // events passed

	slot  []int16 // by item; -1 for pending ones
	in    [mostOpen]int32
	class []int32 // by item: the same for all that want and do the same
	pend  []int32 // by item: its pending class; -1 for none

	// Open ok operations.
	reads  []slots // by value: reads of it, and a cas from it to itself
	misses []slots // by value: mismatches of cas(value, .)
	swaps  []slots // by value: cas from it to another
	puts   []slots // by value: writes of it and cas to it from another
	missed slots   // all mismatches
	writes slots   // all writes
	wants  slots   // all that need a value: reads and cas
	peeks  slots   // of a machine: those that change nothing
	acts   slots   // and all others

	// ok operations still to be called.
	willWant, willPut []int32 // by value
	lastWanted        []int32 // by value: the last event of one that wants it

	// Pending operations, which are told apart by class only.
	pending  []pendingClass
	writesOf []int32   // by value: the pending class of its writes, -1 for none
	swapsTo  [][]int32 // by value: pending classes of cas to it
	maybePut []bool    // by value: some pending operation puts it there
}

// moment is one call or return.
type moment struct {
	line, item int32
	ret        bool
}

type pendingClass struct {
	kind       kind
	want, next int32
	calls      []int32 // the items, in order of call
	called     uint16  // of them so far
}

const mostPending = 60_000 // of one class

// newTimeline is nil where more operations are open at once than there are slots.
func newTimeline(items []item, l *local) *timeline {
	n := int(l.count)
	t := &timeline{items: items, l: l, slot: make([]int16, len(items)), class: make([]int32, len(items)), pend: make([]int32, len(items)),
		reads: make([]slots, n), misses: make([]slots, n), swaps: make([]slots, n), puts: make([]slots, n),
		willWant: make([]int32, n), willPut: make([]int32, n), lastWanted: make([]int32, n),
		writesOf: make([]int32, n), swapsTo: make([][]int32, n), maybePut: make([]bool, n)}
	for v := range t.writesOf {
		t.writesOf[v] = -1
	}
	t.events = make([]moment, 0, 2*len(items))
	for i, it := range items {
		t.events = append(t.events, moment{it.call, int32(i), false})
		if !it.pending() {
			t.events = append(t.events, moment{it.ret, int32(i), true})
		}
	}
	slices.SortFunc(t.events, func(a, b moment) int {
		if a.line == b.line { // calls moved to the start of a window tie
			return cmp.Compare(a.item, b.item)
		}
		return cmp.Compare(a.line, b.line)
	})
	type deed struct {
		kind       kind
		want, next int32
	}
	classes := map[deed]int32{}
	for i, it := range items {
		a := deed{it.kind, l.want[i], l.next[i]}
		if it.kind == peek || it.kind == act {
			a.want = it.want
		}
		c, known := classes[a]
		if !known {
			c = int32(len(classes))
			classes[a] = c
		}
		t.class[i] = c
		t.pend[i] = -1
	}
	byClass := map[int32]int32{}
	var free []int16
	used := int16(0)
	for n, e := range t.events {
		i := e.item
		it := &items[i]
		v, w := l.want[i], l.next[i]
		if v >= 0 && it.kind != miss {
			t.lastWanted[v] = int32(n)
		}
		switch {
		case e.ret:
			free = append(free, t.slot[i])
		case it.pending():
			t.slot[i] = -1
			if it.kind == cas && v == w { // changes nothing, whenever it comes
				continue
			}
			c, known := byClass[t.class[i]]
			if !known {
				c = int32(len(t.pending))
				byClass[t.class[i]] = c
				p := pendingClass{kind: it.kind, want: v, next: w}
				switch it.kind {
				case write:
					t.writesOf[w] = c
					t.maybePut[w] = true
				case cas:
					t.swapsTo[w] = append(t.swapsTo[w], c)
					t.maybePut[w] = true
				default:
					p.want = it.want
				}
				t.pending = append(t.pending, p)
			}
			t.pend[i] = c
			p := &t.pending[c]
			if p.calls = append(p.calls, i); len(p.calls) > mostPending {
				return nil
			}
			if it.kind == cas {
				t.lastWanted[v] = never
			}
		default:
			if len(free) == 0 {
				if used == mostOpen {
					return nil
				}
				free = append(free, used)
				used++
			}
			t.slot[i] = free[len(free)-1]
			free = free[:len(free)-1]
			t.will(i, 1)
		}
	}
	return t
}

// will counts an ok operation as one to come.
func (t *timeline) will(i, by int32) {
	v, w := t.l.want[i], t.l.next[i]
	if k := t.items[i].kind; k == read || k == cas {
		t.willWant[v] += by
	}
	if w >= 0 && v != w {
		t.willPut[w] += by
	}
}

// returnsBefore counts the operations that have completed in the first events.
func (t *timeline) returnsBefore(events int) int {
	n := 0
	for _, e := range t.events[:events] {
		if e.ret {
			n++
		}
	}
	return n
}

// pass goes over the next event.
func (t *timeline) pass() {
	e := t.events[t.at]
	t.at++
	t.move(e, !e.ret)
}

// back returns to before the event last passed.
func (t *timeline) back() {
	t.at--
	e := t.events[t.at]
	t.move(e, e.ret)
	if !e.ret && t.slot[e.item] >= 0 {
		t.will(e.item, 1)
	}
}

// move opens or closes an operation.
func (t *timeline) move(e moment, opens bool) {
	i := e.item
	n := t.slot[i]
	v, w := t.l.want[i], t.l.next[i]
	if n < 0 {
		if c := t.pend[i]; c >= 0 {
			p := &t.pending[c]
			if opens {
				p.called++
			} else {
				p.called--
			}
		}
		return
	}
	change := (*slots).drop
	if opens {
		change = (*slots).add
		t.in[n] = i
		if !e.ret {
			t.will(i, -1)
		}
	}
	switch k := t.items[i].kind; {
	case k == peek:
		change(&t.peeks, n)
	case k == act:
		change(&t.acts, n)
	case k == read || k == cas && v == w:
		change(&t.reads[v], n)
		change(&t.wants, n)
	case k == miss:
		change(&t.misses[v], n)
		change(&t.missed, n)
	case k == cas:
		change(&t.swaps[v], n)
		change(&t.wants, n)
		change(&t.puts[w], n)
	default:
		change(&t.writes, n)
		change(&t.puts[w], n)
	}
}
