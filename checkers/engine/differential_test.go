package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Every engine against the plainest of all, over random small histories: verdicts, orders, windows. The
// brute force shares nothing with the engines; it does not even read the JSON that they read.
//
//	go test -run Differential             10,000, always the same
//	SPLITBRAIN_FUZZ=1000000 go test -run Differential -timeout 0

// event is one line of a generated history; values are what Go compares by ==.
type testEvent struct {
	process  int
	typ, f   string
	value    any
	old, new any // of a cas
	mismatch bool
}

// spelled is a value as JSON, where one value may have several spellings.
func spelled(r *rand.Rand, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if _, whole := v.(int); whole && r.Intn(8) == 0 {
		return string(text) + ".0"
	}
	return string(text)
}

func jsonl(r *rand.Rand, events []testEvent) string {
	var b strings.Builder
	for n, e := range events {
		value := spelled(r, e.value)
		if e.f == "cas" {
			value = "[" + spelled(r, e.old) + "," + spelled(r, e.new) + "]"
		}
		more := ""
		if e.mismatch {
			more = `,"error":"mismatch"`
		}
		fmt.Fprintf(&b, `{"index":%d,"time":%d,"process":%d,"type":%q,"f":%q,"value":%s%s}`+"\n",
			n, n*10, e.process, e.typ, e.f, value, more)
	}
	return b.String()
}

// bruteOp is an operation as the brute force sees it; ret -1: it may happen, or not.
type bruteOp struct {
	f         string
	old, new  any
	call, ret int
}

func bruteOps(events []testEvent) []bruteOp {
	var ops []bruteOp
	open := map[int]int{}
	for n, e := range events {
		if e.typ == "invoke" {
			open[e.process] = n
			continue
		}
		from := events[open[e.process]]
		o := bruteOp{f: e.f, old: from.old, new: from.new, call: open[e.process], ret: n}
		delete(open, e.process)
		switch {
		case e.typ == "fail" && e.f == "cas" && e.mismatch:
			o.f = "miss"
		case e.typ == "fail", e.typ == "info" && e.f == "read":
			continue
		case e.typ == "info":
			o.ret = -1
		}
		if e.f == "read" {
			o.old = e.value
		}
		if e.f == "write" {
			o.new = from.value
		}
		ops = append(ops, o)
	}
	for _, n := range open {
		if e := events[n]; e.f == "write" {
			ops = append(ops, bruteOp{f: "write", new: e.value, call: n, ret: -1})
		} else if e.f == "cas" {
			ops = append(ops, bruteOp{f: "cas", old: e.old, new: e.new, call: n, ret: -1})
		}
	}
	return ops
}

// brute tries every order, from any of the values given.
func brute(ops []bruteOp, initial ...any) bool {
	type at struct {
		done  uint64
		value any
	}
	seen := map[at]bool{}
	must := uint64(0)
	for n, o := range ops {
		if o.ret >= 0 {
			must |= 1 << n
		}
	}
	var stack []at
	for _, v := range initial {
		stack = append(stack, at{0, v})
	}
	for len(stack) > 0 {
		now := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if must&^now.done == 0 {
			return true
		}
		if seen[now] {
			continue
		}
		seen[now] = true
		first := 1 << 30 // nothing called after this may come before who returned there
		for n, o := range ops {
			if now.done>>n&1 == 0 && o.ret >= 0 {
				first = min(first, o.ret)
			}
		}
		for n, o := range ops {
			if now.done>>n&1 == 1 || o.call > first {
				continue
			}
			after := at{now.done | 1<<n, now.value}
			switch o.f {
			case "read":
				if now.value != o.old {
					continue
				}
			case "miss":
				if now.value == o.old {
					continue
				}
			case "write":
				after.value = o.new
			default:
				if now.value != o.old {
					continue
				}
				after.value = o.new
			}
			stack = append(stack, after)
		}
	}
	return false
}

// play makes a random history, for one half of them preferably one that is invalid.
func play(r *rand.Rand) []testEvent {
	for tries := 2 * r.Intn(2); ; tries-- {
		events := once(r)
		if tries <= 0 {
			return events
		}
		items := plain(events)
		f := newFrontier(newTimeline(items, localise(items, idNull, nil)), nil)
		f.stop = func() bool { return false }
		if f.search([]int32{0}, 64, 64) == illegal {
			return events
		}
	}
}

// once makes a random history: a register is played, and then most often some answers are bent to
// values that were in play, so that nothing looks wrong at first sight.
func once(r *rand.Rand) []testEvent {
	clients := 2 + r.Intn(6)
	count := 4 + r.Intn(42)
	infoShare := []float64{0, 0, 0.05, 0.1, 0.2}[r.Intn(5)]
	eager := []float64{0.3, 0.5, 0.7}[r.Intn(3)]
	casShare := []float64{0.05, 0.3, 0.6}[r.Intn(3)]
	readShare := []float64{0.3, 0.5, 0.7}[r.Intn(3)]
	if infoShare > 0.05 {
		count = min(count, 30)
	}
	domains := [][]any{{1, 2}, {1, 2, 3}, {1, true, "1", 2}, {9007199254740992, 9007199254740993, 5}, {nil, 0, 5}, {1, 2, 3, 4, 5, 6, 7, 8}}
	domain := domains[r.Intn(len(domains))]
	unique := r.Intn(5) < 2
	fresh := 10
	big := r.Intn(4) == 0
	pick := func() any {
		if unique {
			fresh++
			if big {
				return 9007199254740900 + fresh
			}
			return fresh
		}
		return domain[r.Intn(len(domain))]
	}
	var value any
	var recent []any
	var events []testEvent
	type running struct {
		testEvent
		done   bool
		answer any
		hit    bool
	}
	busy := map[int]*running{}
	nextProcess := clients
	free := []int{}
	for n := range clients {
		free = append(free, n)
	}
	effect := func(x *running) {
		x.done = true
		switch x.f {
		case "read":
			x.answer = value
		case "write":
			value = x.value
			recent = append(recent, value)
		default:
			if x.hit = value == x.old; x.hit {
				value = x.new
				recent = append(recent, value)
			}
		}
	}
	order := []int{}
	for started := 0; started < count || len(busy) > 0; {
		chance := r.Float64()
		if len(free) > 0 && started < count && (chance < eager || len(busy) == 0) {
			n := r.Intn(len(free))
			p := free[n]
			free = append(free[:n], free[n+1:]...)
			e := testEvent{process: p, typ: "invoke", f: "write"}
			switch {
			case r.Float64() < casShare:
				e.f = "cas"
				e.old = value
				if r.Intn(3) == 0 && len(recent) > 0 {
					e.old = recent[max(0, len(recent)-1-r.Intn(4))]
				}
				e.new = pick()
			case r.Float64() < readShare:
				e.f = "read"
			default:
				e.value = pick()
			}
			events = append(events, e)
			busy[p] = &running{testEvent: e}
			order = append(order, p)
			started++
			continue
		}
		n := r.Intn(len(order))
		p := order[n]
		x := busy[p]
		if !x.done && r.Float64() < 0.6 {
			effect(x)
			continue
		}
		order = append(order[:n], order[n+1:]...)
		delete(busy, p)
		e := x.testEvent
		if r.Float64() < infoShare {
			if r.Intn(2) == 0 && !x.done {
				effect(x)
			}
			if e.typ = "info"; r.Intn(2) == 0 {
				events = append(events, e)
			}
			free = append(free, nextProcess)
			nextProcess++
			continue
		}
		if !x.done {
			effect(x)
		}
		free = append(free, p)
		e.typ = "ok"
		if e.f == "read" {
			e.value = x.answer
		}
		if e.f == "cas" && !x.hit {
			e.typ = "fail"
			e.mismatch = r.Intn(5) > 0
		}
		events = append(events, e)
	}
	if r.Intn(6) > 0 {
		bend(r, events, 10+r.Intn(40))
	}
	return events
}

// plain is what the engines see of a history, without its way through the file.
func plain(events []testEvent) []item {
	ids := map[any]int32{nil: idNull}
	id := func(v any) int32 {
		n, ok := ids[v]
		if !ok {
			n = int32(len(ids))
			ids[v] = n
		}
		return n
	}
	kinds := map[string]kind{"read": read, "write": write, "cas": cas, "miss": miss}
	var out []item
	for _, o := range bruteOps(events) {
		it := item{kind: kinds[o.f], want: id(o.old), next: id(o.new), call: int32(o.call), ret: int32(o.ret)}
		if o.ret < 0 {
			it.ret = never
		}
		if o.f == "read" {
			it.next = it.want
		}
		it.op = int32(len(out))
		out = append(out, it)
	}
	byCall(out)
	return out
}

// bend changes answers, and takes most changes back that a precheck would see.
func bend(r *rand.Rand, events []testEvent, most int) {
	var places []int
	for n, e := range events {
		if e.typ != "invoke" && e.typ != "info" && e.f != "write" {
			places = append(places, n)
		}
	}
	for range most {
		if len(places) == 0 {
			return
		}
		n := places[r.Intn(len(places))]
		e := &events[n]
		before := *e
		var known []any
		for _, o := range events[max(0, n-6):min(len(events), n+2)] {
			switch {
			case o.typ == "fail":
			case o.f == "write":
				known = append(known, o.value)
			case o.f == "cas":
				known = append(known, o.new, o.old)
			case o.typ == "ok":
				known = append(known, o.value)
			}
		}
		switch {
		case e.f == "read" && len(known) > 0:
			e.value = known[r.Intn(len(known))]
		case e.typ == "ok":
			e.typ, e.mismatch = "fail", true
		case e.mismatch:
			for _, v := range known {
				if v == e.old {
					e.typ, e.mismatch = "ok", false
				}
			}
		}
		if *e != before && r.Intn(60) > 0 {
			if precheck(plain(events), idNull) != nil {
				*e = before
			}
		}
	}
}

// judge runs engines over a history as the program does.
func judge(h *history, use engines) report {
	l := limits{deadline: time.Now().Add(time.Hour), keyTime: time.Hour}
	c := newChecker(h, modelNamed("cas-register"), l, use, nil, nil)
	return c.decide(&worker{}, &job{deadline: l.deadline}, 0, "time")
}

// part is what a counterexample says for the brute force: its operations as they were, and every other
// one with an effect as one that may happen at any time from its call on, unless it was over when the
// window began, or puts a value there that nothing asks about.
func part(events []testEvent, h *history, r *report) []bruteOp {
	forced := map[int]bool{}
	begin := 1 << 30
	for _, it := range r.forced {
		call := int(h.ops[it.op].invoke)
		forced[call] = true
		begin = min(begin, call)
	}
	wanted := map[any]bool{}
	absent := false
	var out, rest []bruteOp
	for _, o := range bruteOps(events) {
		switch {
		case forced[o.call]:
			out = append(out, o)
			absent = absent || o.f == "miss"
			if o.f != "write" {
				wanted[o.old] = true
			}
		case (o.f == "write" || o.f == "cas") && (r.whole || o.ret < 0 || o.ret > begin):
			o.ret = -1
			rest = append(rest, o)
		}
	}
	for more := true; more; {
		more = false
		for n, o := range rest {
			if o.f != "" && (absent || wanted[o.new]) {
				out = append(out, o)
				if o.f == "cas" {
					wanted[o.old] = true
				}
				rest[n].f = ""
				more = true
			}
		}
	}
	return out
}

// disagreement is what is wrong with the engines' answers about a history, or "".
func disagreement(r *rand.Rand, events []testEvent, tally map[string]int) string {
	h, err := readHistory(strings.NewReader(jsonl(r, events)), modelNamed("cas-register"))
	if err != nil {
		return err.Error()
	}
	truth := brute(bruteOps(events), nil)
	tally["all"]++
	if !truth {
		tally["invalid"]++
	}
	for _, use := range []engines{useAll, useZones, useFrontier, useFrontier | useWindow, usePorcupine, usePrecheck} {
		got := judge(h, use)
		if got.verdict == "unknown" {
			if got.limit == "engines" && use != useAll && use&useFrontier == 0 {
				continue // it does not apply, or finds nothing
			}
			return fmt.Sprintf("engines %b: unknown (%s) where the truth is %v", use, got.limit, truth)
		}
		if (got.verdict == "valid") != truth {
			return fmt.Sprintf("engines %b (%s): %s where the truth is %v", use, got.engine, got.verdict, truth)
		}
		tally[fmt.Sprintf("%s by %s of %b", got.verdict, got.engine, use)]++
		if got.verdict == "valid" && got.engine != "porcupine" && !got.verified {
			return fmt.Sprintf("engines %b: valid without a verified order", use)
		}
		if got.verdict != "invalid" {
			continue
		}
		if use == useAll && got.kind == "no-order" {
			tally["beyond the prechecks"]++
		}
		if !got.confirmed && got.proven {
			return fmt.Sprintf("engines %b (%s): not confirmed", use, got.engine)
		}
		if got.kind != "no-order" {
			continue
		}
		if !got.proven {
			return fmt.Sprintf("engines %b (%s): no proven window", use, got.engine)
		}
		// Alone, from the start or from any value, the window must be wrong as well.
		ops := part(events, h, &got)
		if len(ops)-len(got.forced) > 14 {
			continue // too many ways for the brute force
		}
		tally["windows"]++
		from := []any{nil}
		if !got.whole {
			from = append(from, "nobody wants this")
			for _, o := range ops {
				if o.f != "write" {
					from = append(from, o.old)
				}
			}
		}
		if brute(ops, from...) {
			return fmt.Sprintf("engines %b (%s): the window %v is no violation", use, got.engine, ops)
		}
	}
	return ""
}

// compare runs histories of seeds from..from+n on all cores and returns what they were like.
func compare(t *testing.T, from int64, n int) (map[string]int, string) {
	tally := map[string]int{}
	var first string
	var mu sync.Mutex
	var next atomic.Int64
	var done sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		done.Add(1)
		go func() {
			defer done.Done()
			own := map[string]int{}
			for k := next.Add(1) - 1; k < int64(n); k = next.Add(1) - 1 {
				r := rand.New(rand.NewSource(from + k))
				if k > 0 && k%100_000 == 0 {
					t.Logf("%d histories, no disagreement", k)
				}
				events := play(r)
				if problem := disagreement(r, events, own); problem != "" {
					mu.Lock()
					first = fmt.Sprintf("seed %d: %s\n%s", from+k, problem, jsonl(r, events))
					mu.Unlock()
					next.Store(int64(n))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for what, count := range own {
				tally[what] += count
			}
		}()
	}
	done.Wait()
	return tally, first
}

func TestDifferential(t *testing.T) {
	confirmTime = time.Hour // what is asked here is whether they agree, on however busy a machine
	n, seed := 10_000, int64(1)
	if given, err := strconv.Atoi(os.Getenv("SPLITBRAIN_FUZZ")); err == nil {
		n, seed = given, time.Now().UnixNano()
	}
	tally, problem := compare(t, seed, n)
	if problem != "" {
		t.Fatal(problem)
	}
	t.Log(tally)
	if tally["invalid"]*10 < 4*tally["all"] {
		t.Errorf("%d of %d histories are invalid; expected 40%%", tally["invalid"], tally["all"])
	}
	if 2*tally["beyond the prechecks"] < tally["invalid"] {
		t.Errorf("%d of %d invalid histories are beyond the prechecks; expected most", tally["beyond the prechecks"], tally["invalid"])
	}
}

// TestPlantedMistakesAreCaught switches each mistake on: a differential test that stays green then is
// worth nothing.
func TestPlantedMistakesAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	log := os.Stderr
	os.Stderr, _ = os.Open(os.DevNull) // the engines' complaints about each other are what is wanted
	defer func() { plant, os.Stderr = sound, log }()
	for m, name := range mistakes {
		plant = m
		if _, problem := compare(t, 1, 20_000); problem == "" {
			t.Errorf("nothing notices when %s", name)
		}
	}
}
