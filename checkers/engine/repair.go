package main

import (
	"cmp"
	"slices"
	"sort"
)

// Mismatches that an order has no place for, though another order may. Whatever is done to a stretch of an
// order, its operations stay behind what stands before it and ahead of what stands after it. So the
// frontier search is given a stretch around such a mismatch, from the value before it to the one
// after it, with dropped pending operations to use if need be, and puts in place what it finds.

const (
	firstStretch   = 32   // operations to either side of where the mismatch has to be
	lastStretch    = 2048 // and at most
	stretchWidth   = 64   // of the frontier
	stretchPending = 8    // dropped operations that may be used in one stretch
)

// Lines beyond those of any history, for operations of a stretch.
const (
	afterAll  = never - 3 // what is pending and took effect does so before the stretch is over
	lastCall  = never - 2
	lastReply = never - 1
)

// held returns items that show that nothing can have come between, for a mismatch that nothing but another
// value at its moment allows: its value was seen before it began, and again by what began after it
// ended, and no value comes twice.
func (z *zones) held(i int32) []int32 {
	m := &z.items[i]
	v := z.l.want[i]
	g := &z.groups[v]
	before, after := int32(nothing), int32(nothing)
	for _, n := range []int32{g.producer, g.minRet, g.taken} {
		if n >= 0 && z.items[n].ret < m.call {
			before = n
		}
	}
	for _, n := range []int32{g.maxCall, g.taken} {
		if n >= 0 && z.items[n].call > m.ret {
			after = n
		}
	}
	if after == nothing || before == nothing && v != 0 {
		return nil
	}
	out := []int32{i, z.shown(after)}
	if before != nothing {
		out = append(out, before)
	}
	return out
}

// stretch is a part of the order that was laid anew.
type stretch struct{ from, to, added int }

type repairer struct {
	*zones
	initial int32
	stop    func() bool
	out     []int32
	done    []stretch
	idle    []int32 // pending operations that are in no order, by call
	used    map[int32]bool
}

// repair puts the mismatches left into an order that holds the others. It returns nil where it cannot.
func (z *zones) repair(whole, left []int32, initial int32, stop func() bool) []int32 {
	g := newGaps(z.items, whole)
	r := &repairer{zones: z, initial: initial, stop: stop, used: map[int32]bool{},
		out: make([]int32, 0, len(whole)+len(left))}
	for i := range z.items {
		if z.items[i].pending() && !z.kept(int32(i)) {
			r.idle = append(r.idle, int32(i))
		}
	}
	first := func(i int32) int {
		return sort.Search(len(whole), func(k int) bool { return g.earliest[k] >= z.items[i].call })
	}
	last := func(i int32) int {
		return sort.Search(len(whole), func(k int) bool { return g.latest[k+1] > z.items[i].ret })
	}
	left = slices.Clone(left)
	slices.SortStableFunc(left, func(a, b int32) int { return cmp.Compare(first(a), first(b)) })
	next := 0
	for _, i := range left {
		for width := firstStretch; ; width *= 4 {
			from, to := max(first(i)-width, 0), min(last(i)+width, len(whole))
			if to > next {
				r.out = append(r.out, whole[next:to]...)
				next = to
			}
			if r.lay(i, from) {
				break
			}
			if width >= lastStretch || stop() {
				return nil
			}
		}
	}
	return append(r.out, whole[next:]...)
}

// lay finds a new order for what stands from a place of the first order on, with mismatch i among it.
func (r *repairer) lay(i int32, from int) bool {
	added := 1
	for n := range r.done {
		from += r.done[n].added
	}
	kept := len(r.done)
	for kept > 0 && from < r.done[kept-1].to {
		kept--
		added += r.done[kept].added
		if from -= r.done[kept].added; from >= r.done[kept].from {
			from = r.done[kept].from // a stretch is laid anew as a whole
			break
		}
	}
	part := append(slices.Clone(r.out[from:]), i)
	value, end := r.valueBefore(from), r.valueBefore(len(r.out))
	found := r.solve(part, value, end, nil)
	if found == nil {
		spare := r.spare(part)
		if len(spare) == 0 {
			return false
		}
		if found = r.solve(part, value, end, spare); found == nil {
			return false
		}
		for _, n := range found {
			if r.items[n].pending() && !r.kept(n) && !r.used[n] {
				r.used[n] = true
				added++
			}
		}
	}
	r.out = append(r.out[:from], found...)
	r.done = append(r.done[:kept], stretch{from, len(r.out), added})
	return true
}

func (r *repairer) valueBefore(at int) int32 {
	for at--; at >= 0; at-- {
		if it := &r.items[r.out[at]]; it.kind == write || it.kind == cas {
			return it.next
		}
	}
	return r.initial
}

// spare are pending operations that no order needs and that may take effect within a part.
func (r *repairer) spare(part []int32) []int32 {
	end := int32(0)
	for _, n := range part {
		end = max(end, r.items[n].call)
	}
	var out []int32
	for n := sort.Search(len(r.idle), func(n int) bool { return r.items[r.idle[n]].call > end }) - 1; n >= 0; n-- {
		if i := r.idle[n]; !r.used[i] && r.items[i].kind == write {
			if out = append(out, i); len(out) == stretchPending {
				break
			}
		}
	}
	return out
}

// solve finds an order of a part that takes one value to another.
func (r *repairer) solve(part []int32, from, to int32, spare []int32) []int32 {
	items := make([]item, 0, len(part)+len(spare)+1)
	for _, n := range part {
		it := r.items[n]
		it.ret = min(it.ret, afterAll)
		it.op = n
		items = append(items, it)
	}
	for _, n := range spare {
		it := r.items[n]
		it.op = n
		items = append(items, it)
	}
	items = append(items, item{kind: read, want: to, next: to, call: lastCall, ret: lastReply, op: -1})
	byCall(items)
	l := localise(items, from, nil)
	l.merge()
	t := newTimeline(items, l)
	if t == nil {
		return nil
	}
	f := newFrontier(t, nil)
	f.stop = r.stop
	if f.search([]int32{0}, narrow, stretchWidth) != legal {
		return nil
	}
	out := make([]int32, 0, len(items))
	for _, n := range f.order {
		if op := items[n].op; op >= 0 {
			out = append(out, op)
		}
	}
	return out
}
