package main

import (
	"slices"
	"time"
)

// Frontier search: what the state can be, event by event.
//
// A configuration is the state, which of the open operations have taken effect, and how many pending
// ones of each class were used. An operation takes effect only when a return forces it or one that
// must come before the returning one: later is never worse. The exception are operations that
// preserve every state they are legal in (reads, mismatches, a cas from a value to itself): they take
// effect as soon as the state lets them. A write of the value that happens to be there is not one of
// them, since another write may have to come between. Of operations that do the same, the one
// that returns first goes first. A pending operation is used only where something needs it at once.
//
// All configurations that can be right after an event are the frontier; when it is empty, no order
// exists. It may grow beyond any memory, so it is cut to the most promising ones, and then an empty
// one proves nothing: the search goes back some way and tries again with a wider frontier. Of two configurations with
// the same state and the same operations done, the one that used more pending operations of every
// class is dropped, within one event of one search only, where the other one is looked at as well.

type config struct {
	done  slots
	state int32
	score int32 // how promising; only compared within one event
	last  int32 // the last operation taken, in the tree of orders; -1 for none
	used  []uint16
}

// What makes a configuration promising: obligations met count for it, operations used up against.
type taste struct {
	swap    int32 // a cas, or what a machine says of an act
	put     int32
	useless int32 // a write that nobody will want to read is best out of the way
	pending int32 // a pending operation may be needed later
}

var (
	careful     = taste{swap: 1, put: -2, useless: 2, pending: -3}
	venturesome = taste{swap: 2, put: 0, useless: 1, pending: -1}
)

const (
	scoreRead = 1
	scoreMiss = 0
	scoreSwap = 1
	scorePut  = -2
	// A value is gone for good that is still needed. It is not dropped for that, since then what the
	// search came to would no longer be the shortest illegal prefix.
	scoreLost = -100
)

const (
	narrow        = 8       // the frontier's width at first
	widest        = 1 << 18 // and at most
	widen         = 8
	snapshotEvery = 128
	mostSnapshots = 256
	mostKept      = 4096 // configurations in one
	settled       = 64   // events beyond where it died until it is narrow again
)

type snapshot struct {
	event    int
	frontier []config
	tree     int // operations in the tree by then
	complete bool
}

type result uint8

const (
	unknown result = iota
	legal
	illegal
)

type frontier struct {
	*timeline
	m         machine // nil for a register
	taste     taste
	result    result
	tree      orders
	seen      configTable
	next      configTable
	heap      []int32 // of seen, the most promising first
	stop      func() bool
	steps     int
	job       *job // to be told of the memory in use; may be nil
	orderless bool // nobody asks for the order of a legal one

	wanted []int32 // scratch: values that something open needs
	marked []int32 // by value: the round in which it was found so
	round  int32
	first  []int32 // scratch, by class: 1 + the open operation that returns first

	furthest int     // the event that no frontier passed
	order    []int32 // of a legal one
	snapshot []snapshot
	onDeath  func() bool // called when a cut frontier died; true ends the search
}

func newFrontier(t *timeline, m machine) *frontier {
	return &frontier{timeline: t, m: m, taste: careful, marked: make([]int32, t.l.count), first: make([]int32, len(t.items))}
}

// search decides from any of the states. It gives up when stop says so, or at the width most.
func (f *frontier) search(states []int32, width, most int) result {
	base := width
	for f.at > 0 {
		f.back()
	}
	f.tree.cut(0)
	f.furthest = -1
	now := make([]config, 0, len(states))
	for _, s := range states {
		c := config{state: s, last: -1}
		if len(f.pending) > 0 {
			c.used = make([]uint16, len(f.pending))
		}
		now = append(now, c)
	}
	complete := true
	f.snapshot = append(f.snapshot[:0], snapshot{0, slices.Clone(now), 0, true})
	attempt, tried := 0, -1
	for f.at < len(f.events) {
		if f.at%snapshotEvery == 0 && len(now) <= mostKept && f.snapshot[len(f.snapshot)-1].event < f.at {
			f.keep(now, complete)
		}
		e := f.events[f.at]
		if !e.ret {
			f.pass()
			f.called(e.item, now)
			continue
		}
		next, whole := f.returned(e.item, now, width)
		if plant == plantCutIsWhole {
			whole = true
		}
		complete = complete && whole
		if len(next) > 0 {
			now = next
			f.pass()
			if attempt > 0 && f.at > f.furthest+settled {
				width, attempt = base, 0
			}
			continue
		}
		f.furthest = max(f.furthest, f.at)
		if complete {
			f.furthest = f.at
			return illegal
		}
		if f.stop() {
			return unknown
		}
		// The first death at a place is most often for want of width, and costs less to repair than to explain.
		if attempt > 0 && f.furthest > tried && f.onDeath != nil {
			if tried = f.furthest; f.onDeath() {
				return unknown
			}
		}
		if width >= most {
			return unknown
		}
		width *= widen
		now, complete = f.rewind(snapshotEvery << min(3*attempt, 24))
		attempt++
	}
	if !f.orderless {
		f.order = f.replay(now[0].last, states[0])
	}
	return legal
}

// keep remembers a frontier, and forgets every second of the older ones when there are many.
func (f *frontier) keep(now []config, complete bool) {
	if len(f.snapshot) >= mostSnapshots {
		kept := f.snapshot[:1]
		for n, s := range f.snapshot[1:] {
			if n%2 == 0 || n > mostSnapshots*3/4 {
				kept = append(kept, s)
			}
		}
		clear(f.snapshot[len(kept):])
		f.snapshot = kept
	}
	f.snapshot = append(f.snapshot, snapshot{f.at, slices.Clone(now), f.tree.n, complete})
}

// rewind goes back to a frontier at least so many events ago.
func (f *frontier) rewind(events int) ([]config, bool) {
	n := len(f.snapshot) - 1
	for n > 0 && f.snapshot[n].event > f.at-events {
		n--
	}
	clear(f.snapshot[n+1:])
	f.snapshot = f.snapshot[:n+1]
	s := f.snapshot[n]
	for f.at > s.event {
		f.back()
	}
	f.tree.cut(s.tree)
	return slices.Clone(s.frontier), s.complete
}

// called lets an operation take effect at once where that cannot hurt.
func (f *frontier) called(i int32, now []config) {
	n := f.slot[i]
	if n < 0 {
		return
	}
	v := f.l.want[i]
	switch k := f.items[i].kind; {
	case k == miss:
		for c := range now {
			if now[c].state != v {
				now[c].done.add(n)
				now[c].score += scoreMiss
			}
		}
	case k == read || k == cas && v == f.l.next[i]:
		for c := range now {
			if now[c].state == v {
				now[c].done.add(n)
				now[c].score += scoreRead
			}
		}
	case k == peek || k == act && plant == plantEagerWrites:
		for c := range now {
			if f.m.step(now[c].state, f.items[i].want) == now[c].state {
				now[c].done.add(n)
				now[c].score += scoreRead
			}
		}
	case plant == plantEagerWrites && k == write:
		for c := range now {
			if now[c].state == f.l.next[i] {
				now[c].done.add(n)
			}
		}
	}
}

// returned is the frontier once i has returned, and whether that is all of it.
func (f *frontier) returned(i int32, now []config, width int) ([]config, bool) {
	n := f.slot[i]
	done := 0
	for c := range now {
		if now[c].done.has(n) {
			done++
		}
	}
	if done == len(now) {
		for c := range now {
			now[c].done.drop(n)
		}
		return now, true
	}
	f.seen.reset()
	f.next.reset()
	f.seen.most, f.next.most = width/2, width/2
	f.heap = f.heap[:0]
	for c := range now {
		if now[c].done.has(n) {
			now[c].done.drop(n)
			f.next.add(now[c])
		} else if at := f.seen.add(now[c]); at >= 0 {
			f.push(at)
		}
	}
	whole := true
	budget := len(f.heap) + width
	for len(f.heap) > 0 {
		if budget--; budget < 0 || len(f.next.list) >= 4*width+8 {
			whole = false
			break
		}
		if f.steps++; f.steps%256 == 0 && f.stop() {
			whole = false
			break
		}
		f.expand(f.pop(), i)
	}
	if f.job != nil {
		const each = 80 // bytes of a configuration, in a list and its table
		f.job.weight.Store(int64(each*(cap(f.seen.list)+cap(f.next.list))+2*len(f.pending)*len(f.seen.list)) + f.tree.bytes())
	}
	whole = whole && !f.seen.cut && !f.next.cut
	if len(f.next.list) > width {
		whole = false
		slices.SortFunc(f.next.list, func(a, b config) int { return int(b.score) - int(a.score) })
		return slices.Clone(f.next.list[:width]), whole
	}
	return append(now[:0], f.next.list...), whole
}

// expand takes each operation that a configuration allows, one at a time.
func (f *frontier) expand(at, target int32) {
	c := f.seen.list[at]
	// Of open operations of a class, the one that returns first.
	candidates := f.writes
	if f.m != nil {
		candidates = f.acts
		candidates.or(&f.peeks) // what is left of them changes this state, which is not all known
	} else {
		candidates.or(&f.swaps[c.state])
	}
	candidates.andNot(&c.done)
	candidates.each(func(n int16) {
		i := f.in[n]
		f.first[f.class[i]] = 0
	})
	candidates.each(func(n int16) {
		i := f.in[n]
		best := &f.first[f.class[i]]
		if *best == 0 || (f.items[i].ret < f.items[*best-1].ret) != (plant == plantLateWins) {
			*best = i + 1
		}
	})
	candidates.each(func(n int16) {
		i := f.in[n]
		if f.first[f.class[i]] == i+1 {
			f.take(&c, i, target)
		}
	})
	if len(f.pending) > 0 {
		f.takePending(&c, target)
	}
}

// take adds the configuration after an open operation has taken effect.
func (f *frontier) take(c *config, i, target int32) {
	d := *c
	d.done.add(f.slot[i])
	v := f.l.next[i]
	switch {
	case f.m != nil:
		if v = f.m.step(c.state, f.items[i].want); v == stuck {
			return
		}
		d.score += f.m.weight(f.items[i].want)
	case f.items[i].kind == cas:
		d.score += f.taste.swap
	case f.lastWanted[v] <= int32(f.at) && i != target:
		d.score += f.taste.useless
	default:
		d.score += f.taste.put
	}
	d.last = f.tree.add(taken{c.last, i, int32(f.at)})
	if !f.arrive(&d, v, target) {
		f.tree.cut(f.tree.n - 1)
	}
}

// takePending uses pending operations that put a value there that something needs: an open read or
// cas, or a further pending cas towards such a value; and any at all where a mismatch needs a change.
func (f *frontier) takePending(c *config, target int32) {
	if f.m != nil {
		for p := range f.pending {
			if v := f.m.step(c.state, f.pending[p].want); v != stuck && v != c.state {
				f.use(c, int32(p), v, target)
			}
		}
		return
	}
	f.wanted = f.wanted[:0]
	f.round++
	need := func(v int32) {
		if f.marked[v] != f.round {
			f.marked[v] = f.round
			f.wanted = append(f.wanted, v)
		}
	}
	open := f.wants
	open.andNot(&c.done)
	open.each(func(n int16) { need(f.l.want[f.in[n]]) })
	if f.missed.beyond(&c.done) {
		for p := range f.pending {
			need(f.pending[p].next)
		}
	}
	for n := 0; n < len(f.wanted); n++ {
		v := f.wanted[n]
		if p := f.writesOf[v]; p >= 0 && v != c.state {
			f.use(c, p, v, target)
		}
		for _, p := range f.swapsTo[v] {
			if from := f.pending[p].want; from == c.state {
				f.use(c, p, v, target)
			} else if f.pending[p].called > c.used[p] {
				need(from)
			}
		}
	}
}

// use adds the configuration after a pending operation of class p has taken effect, which makes the state v.
func (f *frontier) use(c *config, p, v, target int32) {
	if f.pending[p].called <= c.used[p] {
		return
	}
	d := *c
	d.used = slices.Clone(c.used)
	d.used[p]++
	d.score += f.taste.pending
	d.last = f.tree.add(taken{c.last, ^p, int32(f.at)})
	if !f.arrive(&d, v, target) {
		f.tree.cut(f.tree.n - 1)
	}
}

// arrive moves a configuration to a state and keeps it, unless it is known or leads nowhere.
func (f *frontier) arrive(d *config, v, target int32) bool {
	from := d.state
	d.state = v
	if f.m != nil {
		fresh := f.legalPeeks(v, &d.done)
		d.score += scoreRead * int32(fresh.count())
		d.done.or(&fresh)
	} else {
		fresh := f.reads[v]
		fresh.andNot(&d.done)
		d.score += scoreRead * int32(fresh.count())
		d.done.or(&fresh)
		fresh = f.missed
		fresh.andNot(&f.misses[v])
		fresh.andNot(&d.done)
		d.score += scoreMiss * int32(fresh.count())
		d.done.or(&fresh)
		if from != v && f.lost(d, from) {
			d.score += scoreLost
		}
	}
	if n := f.slot[target]; d.done.has(n) {
		d.done.drop(n)
		return f.next.add(*d) >= 0
	}
	at := f.seen.add(*d)
	if at >= 0 {
		f.push(at)
	}
	return at >= 0
}

// legalPeeks are the open operations not done that fit a machine's state and do not change it.
func (f *frontier) legalPeeks(state int32, done *slots) slots {
	open, out := f.peeks, slots{}
	open.andNot(done)
	open.each(func(n int16) {
		if f.m.step(state, f.items[f.in[n]].want) == state {
			out.add(n)
		}
	})
	return out
}

// lost tells whether a value is gone for good while something still has to meet it.
func (f *frontier) lost(d *config, v int32) bool {
	if f.maybePut[v] || f.willPut[v] > 0 || f.puts[v].beyond(&d.done) {
		return false
	}
	return f.willWant[v] > 0 || f.reads[v].beyond(&d.done) || f.swaps[v].beyond(&d.done)
}

func (f *frontier) push(at int32) {
	list := f.seen.list
	f.heap = append(f.heap, at)
	for n := len(f.heap) - 1; n > 0; {
		up := (n - 1) / 2
		if list[f.heap[up]].score >= list[f.heap[n]].score {
			return
		}
		f.heap[up], f.heap[n] = f.heap[n], f.heap[up]
		n = up
	}
}

func (f *frontier) pop() int32 {
	list := f.seen.list
	top := f.heap[0]
	end := len(f.heap) - 1
	f.heap[0] = f.heap[end]
	f.heap = f.heap[:end]
	for n := 0; ; {
		down := 2*n + 1
		if down >= end {
			return top
		}
		if down+1 < end && list[f.heap[down+1]].score > list[f.heap[down]].score {
			down++
		}
		if list[f.heap[n]].score >= list[f.heap[down]].score {
			return top
		}
		f.heap[n], f.heap[down] = f.heap[down], f.heap[n]
		n = down
	}
}

// replay turns a path of the tree into the whole order, which begins at a state.
func (f *frontier) replay(last, state int32) []int32 {
	path := f.tree.path(last)
	for f.at > 0 {
		f.back()
	}
	var order []int32
	done := slots{}
	used := make([]uint16, len(f.pending))
	settle := func() { // what can take effect in this state does
		var ready slots
		if f.m != nil {
			ready = f.legalPeeks(state, &done)
		} else {
			ready = f.missed
			ready.andNot(&f.misses[state])
			ready.or(&f.reads[state])
			ready.andNot(&done)
		}
		done.or(&ready)
		ready.each(func(n int16) { order = append(order, f.in[n]) })
	}
	for f.at < len(f.events) {
		for len(path) > 0 && int(path[0].event) == f.at {
			i := path[0].item
			path = path[1:]
			if i < 0 {
				p := ^i
				i = f.pending[p].calls[used[p]]
				used[p]++
			} else {
				done.add(f.slot[i])
			}
			if f.m != nil {
				state = f.m.step(state, f.items[i].want)
			} else {
				state = f.l.next[i]
			}
			order = append(order, i)
			settle()
		}
		e := f.events[f.at]
		if e.ret {
			done.drop(f.slot[e.item])
		}
		f.pass()
		settle()
	}
	return order
}

// stopper ends a search at a deadline, or when its job is to give up.
func (j *job) stopper(deadline time.Time) func() bool {
	return func() bool { return j.gaveUp.Load() != nil || time.Now().After(deadline) }
}
