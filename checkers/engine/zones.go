package main

import (
	"math"
	"slices"
)

// Zones: registers in which no value is written twice, O(n log n) (Gibbons and Korach, Testing
// Shared Memories, 1997, with compare-and-set and operations of unknown outcome added).
//
// What observes a value tells which operation put it there. A pending operation whose value is never
// observed is dropped, as it is no way out of anything but a mismatch; one whose value is observed
// did take effect, somewhere after its call. A compare-and-set follows the producer of the value it
// met, so that producers form chains; two of them from one value, a cycle, or a value that nobody
// produced is a violation. A chain with all its reads is a *block*: nothing else fits into it.
//
// Let f be the least return and s the greatest call in a block. If f < s the block covers all of
// f..s, a forward zone; else all of it fits at any one moment of s..f. So an order exists if and
// only if each block has one by itself (no operation called after the return of a later one), no
// two forward zones overlap, and no other block lies strictly inside one.

// local numbers a key's values from 0, which is the initial one.
type local struct {
	want, next []int32 // by item; -1 where the kind has none
	count      int32
}

// localise numbers the values of items; scratch, by value, is all zero before and after. Without
// one a map does.
func localise(items []item, initial int32, scratch []int32) *local {
	l := &local{want: make([]int32, len(items)), next: make([]int32, len(items)), count: 1}
	var known map[int32]int32
	if scratch == nil {
		known = map[int32]int32{initial: 0}
	} else if initial >= 0 {
		scratch[initial] = 1
	}
	number := func(v int32) int32 {
		if known != nil {
			n, ok := known[v]
			if !ok {
				n = l.count
				known[v] = n
				l.count++
			}
			return n
		}
		if scratch[v] == 0 {
			l.count++
			scratch[v] = l.count
		}
		return scratch[v] - 1
	}
	for i := range items {
		it := &items[i]
		l.want[i], l.next[i] = -1, -1
		if it.kind == act || it.kind == peek {
			continue
		}
		if it.kind != write {
			l.want[i] = number(it.want)
		}
		if it.kind == write || it.kind == cas {
			l.next[i] = number(it.next)
		}
	}
	if known == nil {
		if initial >= 0 {
			scratch[initial] = 0
		}
		for i := range items {
			it := &items[i]
			if it.kind != write {
				scratch[it.want] = 0
			}
			if it.kind == write || it.kind == cas {
				scratch[it.next] = 0
			}
		}
	}
	return l
}

// merge makes one value of all that nobody wants and no mismatch names.
func (l *local) merge() {
	wanted := make([]bool, l.count)
	for _, v := range l.want {
		if v >= 0 {
			wanted[v] = true
		}
	}
	other := l.count
	l.count++
	for i, v := range l.next {
		if v >= 0 && !wanted[v] {
			l.next[i] = other
		}
	}
}

const (
	nothing = -1 // no such item
	atStart = -2 // the initial value's producer
)

// group is one value: what put it there and who read it.
type group struct {
	producer int32
	taken    int32 // the cas that took it away
	observer int32 // an ok operation that shows that the value was there
	maxCall  int32 // the read called last
	minRet   int32 // the read that returned first
	reads    int32 // how many
	first    int32 // where its reads begin in a list of all reads
}

// block is a chain of groups from root on.
type block struct {
	root     int32
	f, s     int32
	fAt, sAt int32 // the items that these are of; nothing for the initial value
}

type zones struct {
	items  []item
	l      *local
	groups []group
	blocks []block
}

// verdict of the zones: an order without the mismatches, or the items that make one impossible.
type zoned struct {
	order []int32
	bad   []int32
}

// newZones is nil where some value has two producers: then nothing of this applies.
func newZones(items []item, l *local) *zones {
	z := &zones{items: items, l: l, groups: make([]group, l.count)}
	for v := range z.groups {
		z.groups[v] = group{producer: nothing, taken: nothing, observer: nothing, maxCall: nothing, minRet: nothing}
	}
	z.groups[0].producer = atStart
	for i, v := range l.next {
		if v < 0 {
			continue
		}
		if z.groups[v].producer != nothing {
			return nil
		}
		z.groups[v].producer = int32(i)
	}
	return z
}

// decide looks for an order of everything but the mismatches.
func (z *zones) decide() zoned {
	z.observe()
	if bad := z.link(); bad != nil {
		return zoned{bad: bad}
	}
	if bad := z.chain(); bad != nil {
		return zoned{bad: bad}
	}
	places, bad := z.place()
	if bad != nil {
		return zoned{bad: bad}
	}
	return zoned{order: z.order(places)}
}

// observe finds the values that were certainly there.
func (z *zones) observe() {
	for i := range z.items {
		it := &z.items[i]
		if it.pending() || it.kind != read && it.kind != cas {
			continue
		}
		// A pending cas that was needed to put this value there met another value, and so on.
		for v := z.l.want[i]; v >= 0 && z.groups[v].observer == nothing; {
			z.groups[v].observer = int32(i)
			p := z.groups[v].producer
			if p < 0 || !z.items[p].pending() || z.items[p].kind != cas {
				break
			}
			v = z.l.want[p]
		}
	}
}

// kept tells whether an operation took effect.
func (z *zones) kept(i int32) bool {
	return !z.items[i].pending() || z.groups[z.l.next[i]].observer != nothing
}

// link hangs reads and compare-and-sets on the values they met.
func (z *zones) link() []int32 {
	for i := range z.items {
		it := &z.items[i]
		at := int32(i)
		if it.kind == miss || it.kind == write || !z.kept(at) {
			continue
		}
		g := &z.groups[z.l.want[i]]
		if g.producer == nothing {
			return []int32{z.shown(at)}
		}
		if it.kind == cas {
			if g.taken != nothing {
				return []int32{z.shown(g.taken), z.shown(at)}
			}
			g.taken = at
			continue
		}
		g.reads++
		if g.maxCall == nothing || it.call > z.items[g.maxCall].call {
			g.maxCall = at
		}
		if g.minRet == nothing || it.ret < z.items[g.minRet].ret {
			g.minRet = at
		}
	}
	return nil
}

// shown is the ok operation that proves that i took effect: itself, or who observed its value.
func (z *zones) shown(i int32) int32 {
	if z.items[i].pending() {
		return z.groups[z.l.next[i]].observer
	}
	return i
}

// chain makes blocks, and looks at each by itself.
func (z *zones) chain() []int32 {
	reached := 0
	for v := range z.groups {
		root := z.groups[v].producer
		if root == nothing || root >= 0 && (z.items[root].kind == cas || !z.kept(root)) {
			continue
		}
		b := block{root: int32(v), f: never, s: math.MinInt32, fAt: nothing, sAt: nothing}
		if root == atStart {
			b.f, b.s = 0, 0
		}
		add := func(i int32) { // an operation that nothing called later may follow
			if it := &z.items[i]; it.call > b.s {
				b.s, b.sAt = it.call, i
			}
		}
		before := func(i int32) bool { // whether i can come after all that was added
			it := &z.items[i]
			if it.ret < b.f {
				b.f, b.fAt = it.ret, i
			}
			return b.s <= it.ret
		}
		for at := int32(v); ; {
			g := &z.groups[at]
			if g.producer >= 0 {
				if !before(g.producer) {
					return []int32{z.shown(b.sAt), z.shown(g.producer)}
				}
				add(g.producer)
				reached++
			}
			if g.minRet != nothing {
				if !before(g.minRet) {
					return []int32{z.shown(b.sAt), g.minRet}
				}
				add(g.maxCall)
			}
			if g.taken == nothing {
				break
			}
			at = z.l.next[g.taken]
		}
		z.blocks = append(z.blocks, b)
	}
	// What no chain from a write reached goes in a circle.
	for i := range z.items {
		if k := z.items[i].kind; (k == write || k == cas) && z.kept(int32(i)) {
			reached--
		}
	}
	if reached == 0 {
		return nil
	}
	return z.circle()
}

func (z *zones) circle() []int32 {
	on := make([]bool, len(z.groups))
	for _, b := range z.blocks {
		for at := b.root; ; at = z.l.next[z.groups[at].taken] {
			on[at] = true
			if z.groups[at].taken == nothing {
				break
			}
		}
	}
	for i := range z.items {
		v := z.l.next[i]
		if v < 0 || on[v] || !z.kept(int32(i)) {
			continue
		}
		for !on[v] { // to where the circle closes
			on[v] = true
			v = z.l.want[z.groups[v].producer]
		}
		start := v
		var bad []int32
		for {
			bad = append(bad, z.shown(z.groups[v].producer))
			if v = z.l.want[z.groups[v].producer]; v == start {
				return bad
			}
		}
	}
	return nil
}

// place gives each block a moment, or names the operations of two that exclude each other.
func (z *zones) place() ([]int64, []int32) {
	forward := make([]int64, 0, len(z.blocks)/4)
	for n, b := range z.blocks {
		if b.f < b.s {
			forward = append(forward, int64(b.f)<<32|int64(n))
		}
	}
	slices.Sort(forward)
	bad := func(a, b *block) []int32 {
		var out []int32
		for _, i := range []int32{a.fAt, a.sAt, b.fAt, b.sAt} {
			if i != nothing {
				out = append(out, z.shown(i))
			}
		}
		return out
	}
	for n := 1; n < len(forward); n++ {
		a, b := &z.blocks[int32(forward[n-1])], &z.blocks[int32(forward[n])]
		if b.f < a.s {
			return nil, bad(a, b)
		}
	}
	places := make([]int64, len(z.blocks))
	for n := range z.blocks {
		b := &z.blocks[n]
		moment := b.f
		if b.f >= b.s {
			moment = b.s
			at, _ := slices.BinarySearch(forward, int64(b.s)<<32)
			if at > 0 {
				around := &z.blocks[int32(forward[at-1])]
				if around.s > b.f {
					return nil, bad(around, b)
				}
				moment = max(moment, around.s)
			}
		}
		places[n] = int64(moment)<<32 | int64(n)
	}
	slices.Sort(places)
	return places, nil
}

// order writes the blocks out one after the other.
func (z *zones) order(places []int64) []int32 {
	total := int32(0)
	for v := range z.groups {
		g := &z.groups[v]
		g.first = total
		total += g.reads
	}
	reads := make([]int32, total)
	filled := make([]int32, len(z.groups))
	for i := range z.items { // in order of call, so each group's are as well
		if z.items[i].kind == read {
			v := z.l.want[i]
			reads[z.groups[v].first+filled[v]] = int32(i)
			filled[v]++
		}
	}
	out := make([]int32, 0, len(z.items))
	for _, p := range places {
		for at := z.blocks[int32(p)].root; ; {
			g := &z.groups[at]
			if g.producer >= 0 {
				out = append(out, g.producer)
			}
			out = append(out, reads[g.first:g.first+g.reads]...)
			if g.taken == nothing {
				break
			}
			at = z.l.next[g.taken]
		}
	}
	return out
}

// relaxed is the part of the history that the items bad alone refute: they, as they are, and what
// put the values there that they need, as pending operations. Everything else with an effect would
// be pending too, and is left out because nothing here observes it.
func (z *zones) relaxed(bad []int32) []item {
	in := map[int32]bool{}
	var out []item
	add := func(i int32, forced bool) {
		if i < 0 || in[i] {
			return
		}
		in[i] = true
		it := z.items[i]
		if !forced {
			it.ret = never
		}
		out = append(out, it)
	}
	for _, i := range bad {
		add(i, true)
	}
	places := slices.Clone(bad)
	for len(places) > 0 {
		i := places[len(places)-1]
		places = places[:len(places)-1]
		if v := z.l.want[i]; v >= 0 {
			if p := z.groups[v].producer; p >= 0 && !in[p] {
				add(p, false)
				places = append(places, p)
			}
		}
	}
	byCall(out)
	return out
}

// definite is relaxed(bad) with what put the values there as it was: the same violation, seen better.
func (z *zones) definite(bad []int32) []item {
	out := z.relaxed(bad)
	in := make(map[int32]int, len(out))
	for n, it := range out {
		in[it.op] = n
	}
	left := len(out)
	for i := 0; left > 0; i++ {
		if n, ok := in[z.items[i].op]; ok {
			out[n] = z.items[i]
			left--
		}
	}
	return out
}
