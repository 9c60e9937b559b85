package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Deciding one key, the cheapest engine first: zones where no value is written twice, prechecks, then
// the frontier search, which hands over to windows wherever it is stuck, then Porcupine. No engine is trusted
// alone: an order has to pass the verifier, a violation Porcupine, or the key is unknown.

type engines uint8

const (
	useZones engines = 1 << iota
	usePrecheck
	useFrontier
	useWindow
	usePorcupine
	useAll = useZones | usePrecheck | useFrontier | useWindow | usePorcupine
)

var engineNames = []string{"zones", "precheck", "frontier", "window", "porcupine"}

func parseEngines(list string) (engines, error) {
	var out engines
	for _, name := range strings.Split(list, ",") {
		found := false
		for n, known := range engineNames {
			if known == name {
				out |= 1 << n
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("unknown engine %q; expected some of %s", name, strings.Join(engineNames, ","))
		}
	}
	return out, nil
}

// confirmTime bounds how long Porcupine may take over one counterexample.
var confirmTime = 2 * time.Second

// worker is what one goroutine keeps from key to key.
type worker struct {
	scratch []int32 // by value
}

// values numbers the values of items; few of them are not worth a list of all.
func (w *worker) values(h *history, items []item, initial int32) *local {
	if len(items) < 64 || items[0].kind == act || items[0].kind == peek {
		return localise(items, initial, nil)
	}
	if w.scratch == nil {
		w.scratch = make([]int32, max(len(h.texts), 2))
	}
	return localise(items, initial, w.scratch)
}

func (c *checker) decide(w *worker, j *job, place int, limit string) report {
	ops := c.h.of[place]
	r := report{place: place}
	var items []item
	if c.m.compile != nil {
		j.machine, items = c.m.compile(c.h, c.m, ops)
		j.initial = j.machine.initial()
	} else {
		items = normalise(c.h, c.m, ops)
		j.initial = c.m.initial
	}
	l := w.values(c.h, items, j.initial)
	if j.machine == nil && c.engines&useZones != 0 && c.zones(j, &r, items, l) {
		return r
	}
	if c.engines&usePrecheck != 0 && c.m.register {
		if found := precheck(items, j.initial); found != nil {
			r.engine = "precheck"
			c.found(j, &r, items, found)
			return r
		}
	}
	if c.engines&useFrontier != 0 && c.frontier(j, &r, items, l) {
		return r
	}
	if c.engines&usePorcupine != 0 {
		r.engine = "porcupine"
		switch result, order := j.ordered(items, j.initial, j.deadline); result {
		case porcupine.Ok:
			if c.valid(&r, items, order) {
				return r
			}
		case porcupine.Illegal:
			c.illegal(j, &r, items, j.shortest(items, j.initial))
			return r
		}
	}
	r.verdict = "unknown"
	if r.engine == "" {
		r.engine = "none"
	}
	switch given := j.gaveUp.Load(); {
	case given != nil:
		r.limit = *given
	case r.limit == "" && c.engines == useAll:
		r.limit = limit
	case r.limit == "":
		r.limit = "engines"
	}
	r.reached = int(j.reached.Load())
	return r
}

// zones reports whether they decided the key.
func (c *checker) zones(j *job, r *report, items []item, l *local) bool {
	z := newZones(items, l)
	if z == nil {
		return false
	}
	r.engine = "zones"
	found := z.decide()
	if found.bad == nil {
		order, left := z.merge(found.order)
		for _, i := range left {
			bad := z.held(i)
			if plant == plantMissFixed {
				bad = []int32{i}
			}
			if bad != nil {
				c.held(j, r, z, bad)
				return true
			}
		}
		if left != nil {
			order = z.repair(order, left, j.initial, j.stopper(j.deadline))
		}
		return order != nil && c.valid(r, items, order)
	}
	// With what wrote the values as it was, a violation may have a name.
	if part := z.definite(found.bad); c.m.register {
		if named := precheck(part, j.initial); named != nil {
			c.found(j, r, part, named)
			return true
		}
	}
	deadline := j.shrinkUntil()
	part := z.relaxed(found.bad)
	r.verdict, r.kind, r.whole, r.proven = "invalid", "no-order", true, true
	r.culprit = lastReturn(part)
	r.split(j.minimise(part, j.initial, r.culprit, deadline))
	c.confirm(j, r, j.initial)
	return true
}

// held reports a mismatch whose value was there all the time, as bad shows. It is not minimised: with
// fewer operations shown, one that is not shown could be what it met.
func (c *checker) held(j *job, r *report, z *zones, bad []int32) {
	part := z.relaxed(bad)
	r.verdict, r.kind, r.whole, r.proven = "invalid", "no-order", true, true
	r.culprit = lastReturn(part)
	r.split(part)
	other := item{kind: write, next: someOther, call: math.MinInt32, ret: never, op: -1}
	c.second(j, r, append(part, other, other), j.initial)
}

// frontier reports whether it, or a window where it was stuck, decided the key. Where that takes long, a second search
// with another taste runs beside it, and whichever decides first is heard.
func (c *checker) frontier(j *job, r *report, items []item, l *local) bool {
	l.merge()
	t := newTimeline(items, l)
	if t == nil {
		return false
	}
	r.engine = "frontier"
	f := newFrontier(t, j.machine)
	beside := c.beside(j, r.place, items, l)
	defer beside.end()
	given := j.stopper(j.deadline)
	f.stop, f.job = func() bool { return given() || beside.decided() }, j
	refuted := false
	began, inWindows := time.Now(), time.Duration(0)
	f.onDeath = func() bool {
		cut := prefix(items, f.events[f.furthest].line)
		if c.engines&useWindow == 0 {
			return false
		}
		// No longer than the search has taken by itself, so that neither can starve the other.
		now := time.Now()
		until := now.Add(now.Sub(began) - 2*inWindows + windowTime)
		defer func() { inWindows += time.Since(now) }()
		if j.deadline.Before(until) {
			until = j.deadline
		}
		window, _ := j.ending(cut, j.initial, until, false)
		if window == nil {
			return false
		}
		refuted = true
		r.engine, r.verdict, r.kind = "window", "invalid", "no-order"
		r.counterexample = counterexample{culprit: lastReturn(cut), proven: true, prefix: countCompleted(cut)}
		r.split(window)
		c.confirm(j, r, anyState)
		return true
	}
	result := f.search(j.from(), narrow, widest)
	if result == unknown && !refuted {
		if other := beside.end(); other != nil {
			f, result = other, other.result
		}
	}
	switch result {
	case legal:
		return c.valid(r, items, f.order)
	case illegal:
		c.illegal(j, r, items, f.events[f.furthest].line)
		return true
	}
	j.reached.Store(int64(f.returnsBefore(max(f.at, f.furthest))))
	return refuted
}

// from is where the search begins: local values are numbered from the initial one.
func (j *job) from() []int32 {
	if j.machine != nil {
		return []int32{j.initial}
	}
	return []int32{0}
}

// windowTime is what windows may take beyond that.
const windowTime = 10 * time.Millisecond

// valid reports a verdict whose witness passes the verifier; else an engine is wrong, and says nothing.
func (c *checker) valid(r *report, items []item, order []int32) bool {
	ops := make([]int32, len(order))
	for n, i := range order {
		ops[n] = items[i].op
	}
	if err := verify(c.h, c.m, c.h.of[r.place], ops); err != nil {
		c.distrust(r, err)
		return false
	}
	r.verdict, r.verified = "valid", true
	if c.witness != nil {
		c.witness.write(c.h, r.place, ops)
	}
	return true
}

// illegal reports a verdict whose counterexample is at the end of what happened up to a line.
func (c *checker) illegal(j *job, r *report, items []item, line int32) {
	r.verdict, r.kind = "invalid", "no-order"
	r.counterexample = j.example(items, j.initial, line)
	initial := int32(anyState)
	if r.whole || !r.proven {
		initial = j.initial
	}
	c.confirm(j, r, initial)
}

// confirm has Porcupine look at a counterexample. Where it finds an order, one of the two engines
// is wrong, and the key is unknown.
func (c *checker) confirm(j *job, r *report, initial int32) {
	if !r.proven {
		return
	}
	c.second(j, r, append(append([]item{}, r.forced...), r.assumed...), initial)
}

func (c *checker) second(j *job, r *report, items []item, initial int32) {
	until := time.Now().Add(confirmTime)
	if j.deadline.Before(until) {
		until = j.deadline
	}
	begin := int32(never)
	for _, it := range r.forced {
		begin = min(begin, it.call)
	}
	ample := func(it item) bool { return it.op >= 0 && c.h.ops[it.op].call < begin && c.h.ops[it.op].typ != typOk }
	switch j.confirmed(items, initial, ample, until) {
	case porcupine.Illegal:
		r.confirmed = true
	case porcupine.Ok:
		c.distrust(r, fmt.Errorf("porcupine finds an order for the counterexample"))
		r.verdict = "unknown"
	}
}

// distrust notes that an engine has made a mistake.
func (c *checker) distrust(r *report, err error) {
	r.limit = "mistake"
	fmt.Fprintf(os.Stderr, "engine %s is wrong about key %s: %v\n", r.engine, c.h.texts[c.h.keys[r.place]], err)
}

// found reports what a precheck found.
func (c *checker) found(j *job, r *report, items []item, f *finding) {
	r.verdict, r.kind, r.proven, r.culprit = "invalid", f.kind, true, items[f.culprit]
	for _, at := range f.parts {
		r.forced = append(r.forced, items[at])
	}
	if f.evidence >= 0 {
		r.evidence = &items[f.evidence]
	}
	if f.source >= 0 {
		r.source = &items[f.source]
	}
	byCall(r.forced)
	if part := f.basis(items); part != nil {
		c.second(j, r, part, j.initial)
	}
}
