package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// What to show of an illegal key, and refuting it by a window where the whole is too hard.
//
// A violation is looked for in the shortest prefix that is illegal, or in which a search came no
// further: operations still open at its end become pending, so that whatever violates the prefix violates the
// whole. Then the beginning is cut off, again soundly: what returned before the window becomes *any
// state*, and operations with an effect that cross its start become pending. If no order exists
// even so, the window alone is a violation. It is minimised by the same relaxation: reads and
// mismatches are deleted, operations with an effect made pending. They are never deleted: a
// read of 1 is a violation once the write of 1 is gone. Porcupine has to agree.

// shrinkTime bounds what is spent on making a counterexample small, after the verdict is certain.
const shrinkTime = 3 * time.Second

const (
	maxWindow   = 32      // completed operations that a refuted window may have
	maxWhole    = 256     // and a prefix that is minimised whole, where no window was refuted
	shownWindow = 16      // the last operations of a prefix, shown where no window could be refuted
	windowWidth = 1 << 14 // of a frontier within a window
)

// prefix is what had happened at a line: operations still open then are pending, or say nothing.
func prefix(items []item, line int32) []item {
	out := make([]item, 0, len(items))
	for _, it := range items {
		if it.call > line {
			continue
		}
		if it.ret > line {
			if it.mute() || plant == plantNeverMind && !it.pending() {
				continue
			}
			it.ret = never
		}
		out = append(out, it)
	}
	return out
}

// suffix is what is certain after a line when nothing before it is known.
func suffix(items []item, line int32) []item {
	out := make([]item, 0, len(items))
	for _, it := range items {
		if it.ret < line {
			continue
		}
		if it.call < line {
			if it.mute() || plant == plantNoCrossing {
				continue
			}
			it.call, it.ret = line, never
		}
		out = append(out, it)
	}
	return out
}

// counterexample is what is shown of an illegal key.
type counterexample struct {
	forced    []item // in order of invocation
	assumed   []item // pending ones that were considered
	culprit   item
	proven    bool // forced and assumed alone are illegal, from any state or from the start
	confirmed bool // Porcupine agrees
	whole     bool // it begins with the history, so the value was the initial one
	prefix    int  // completed operations in the shortest illegal prefix found
	least     bool // no shorter prefix is illegal
}

// anyState stands for an unknown value at the beginning, among what items start from.
const anyState = fresh

// refuted tells whether items alone have no order, from initial or from any state.
func (j *job) refuted(items []item, initial int32, deadline time.Time) bool {
	items = j.relevant(items)
	l := localise(items, initial, nil)
	l.merge()
	t := newTimeline(items, l)
	if t == nil {
		return false
	}
	from := states(l, initial)
	if j.machine != nil {
		if from = []int32{initial}; initial == anyState {
			from = j.machine.anyStates()
		}
	}
	if len(from) == 0 {
		return false
	}
	f := newFrontier(t, j.machine)
	f.stop, f.orderless = j.stopper(deadline), true
	return f.search(from, windowWidth, windowWidth) == illegal
}

// relevant leaves out pending operations that are no way out.
func (j *job) relevant(items []item) []item {
	switch k := j.machine.(type) {
	case nil:
		return relevant(items)
	case *keyValue:
		return k.relevant(slices.Clone(items))
	default:
		return items
	}
}

// states are the local numbers of what items may start from: of any state, only what is wanted differs.
func states(l *local, initial int32) []int32 {
	out := []int32{0}
	if initial != anyState {
		return out
	}
	seen := make([]bool, l.count)
	for _, v := range l.want {
		if v > 0 && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// ending looks for a small violation at the end of a prefix that is illegal, or may be: nil if none is
// found. It is minimal, and whether it had to begin at the start.
func (j *job) ending(cut []item, initial int32, deadline time.Time, known bool) ([]item, bool) {
	forced := slices.DeleteFunc(slices.Clone(cut), item.pending) // in order of call, as cut is
	culprit := lastReturn(cut)
	take := func(n int) []item { return suffix(cut, forced[len(forced)-n].call) }
	// A longer window refutes whatever a shorter one does, so the least can be searched for.
	most := min(len(forced), maxWindow)
	n := sortedFirst(most, func(n int) bool { return j.refuted(take(n), anyState, deadline) })
	whole := n > most
	switch {
	case !whole:
		cut, initial = take(n), anyState
	case !known || len(forced) > maxWhole:
		return nil, false
	}
	return j.minimise(cut, initial, culprit, deadline), whole
}

// minimise takes from a violation what it does not need, and leaves it one.
func (j *job) minimise(items []item, initial int32, culprit item, deadline time.Time) []item {
	for _, it := range completed(items) {
		if it.op == culprit.op {
			continue
		}
		fewer := make([]item, 0, len(items))
		for _, other := range items {
			switch {
			case other.op != it.op:
			case it.mute() || plant == plantDeleteWrites:
				continue
			default:
				other.ret = never
			}
			fewer = append(fewer, other)
		}
		if j.refuted(fewer, initial, deadline) {
			items = fewer
		}
	}
	return j.relevant(items)
}

// example is the counterexample of an illegal key whose returns up to a line fit no order.
func (j *job) example(items []item, initial int32, line int32) counterexample {
	deadline := j.shrinkUntil()
	cut := prefix(items, line)
	out := counterexample{culprit: lastReturn(cut), prefix: countCompleted(cut), least: true}
	window, whole := j.ending(cut, initial, deadline, true)
	out.whole, out.proven = whole, window != nil
	if !out.proven {
		window = cut
	}
	out.split(window)
	if !out.proven && len(out.forced) > shownWindow {
		last := completed(out.forced)
		out.forced = last[len(last)-shownWindow:]
		byCall(out.forced)
	}
	return out
}

func (j *job) shrinkUntil() time.Time {
	deadline := time.Now().Add(shrinkTime)
	if j.deadline.Before(deadline) {
		return j.deadline
	}
	return deadline
}

// split tells a violation's forced operations from the pending ones.
func (c *counterexample) split(window []item) {
	for _, it := range window {
		if it.pending() {
			c.assumed = append(c.assumed, it)
		} else {
			c.forced = append(c.forced, it)
		}
	}
	byCall(c.forced)
	byCall(c.assumed)
}

// relevant leaves out pending operations that are no way out: those that put in place what nobody
// wants. Wanted is what a completed operation met, and what a pending cas has to meet that puts something wanted in
// place; what only pending operations want of each other is not. Where a mismatch asks for a value to be
// absent, any other one may serve, so there they stay.
func relevant(items []item) []item {
	wanted := map[int32]bool{}
	for _, it := range items {
		if it.kind == miss && plant != plantDropSpare {
			return items
		}
		if it.kind != write && !it.pending() {
			wanted[it.want] = true
		}
	}
	for more := true; more; {
		more = false
		for _, it := range items {
			if it.pending() && it.kind == cas && wanted[it.next] && !wanted[it.want] {
				wanted[it.want] = true
				more = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(items), func(it item) bool {
		return it.pending() && !wanted[it.next]
	})
}

// lastReturn is the operation of items that returned last.
func lastReturn(items []item) item {
	out := item{ret: math.MinInt32}
	for _, it := range items {
		if !it.pending() && it.ret > out.ret {
			out = it
		}
	}
	return out
}

func countCompleted(items []item) int {
	n := 0
	for _, it := range items {
		if !it.pending() {
			n++
		}
	}
	return n
}

// completed are those that returned, in order of return.
func completed(items []item) []item {
	out := slices.DeleteFunc(slices.Clone(items), item.pending)
	slices.SortFunc(out, func(a, b item) int { return cmp.Compare(a.ret, b.ret) })
	return out
}

func byCall(items []item) {
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.call, b.call) })
}

// sortedFirst is the least n in 1..most with holds(n), or most+1. Doubling first keeps the windows
// that are tried short.
func sortedFirst(most int, holds func(int) bool) int {
	low, high := 0, 1
	for !holds(min(high, most)) {
		if high >= most {
			return most + 1
		}
		low, high = high, high*2
	}
	high = min(high, most)
	for low+1 < high {
		if middle := (low + high) / 2; holds(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}
