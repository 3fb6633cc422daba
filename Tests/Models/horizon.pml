/* The event stream's cursor: an id, and which ids are settled. T transactions take up to two ids each by nextval, which holds a
 * lock on the sequence until the transaction has ended; rows become visible at the commit, the lock goes a step later.
 * The reader looks (newest visible id, then who holds the lock), gives each new holder the newest id of the look before as its
 * floor, and hands out what is visible up to the least floor, in the order of ids.
 * Wrong on purpose: SWAPPED (holders first), NOWFLOOR (a new holder's floor is the newest id of this look), NOLOCK. */
#define T 3
#define N 7
byte nextId = 1; bool held[T], visible[N]; byte owner[N]; byte sent[N]; byte ended = 0; bool committed[N];
proctype Writer(byte t) {
    byte a = 0, b = 0;
    held[t] = true;
    atomic { a = nextId; nextId++ }
    if :: atomic { b = nextId; nextId++ } :: skip fi;
    if :: atomic { visible[a] = true; committed[a] = true; if :: b -> visible[b] = true; committed[b] = true :: else fi }
       :: skip fi;                                                   /* rolled back */
    atomic { held[t] = false; ended++ }
}
inline newestVisible() { m = 0; i = 1; do :: i < N -> if :: visible[i] -> m = i :: else fi; i++ :: else -> break od }
inline holders() {
    i = 0;
    do :: i < T -> h[i] = held[i]; i++ :: else -> break od }
proctype Reader() {
    byte pos = 0, i, m, prev = 0, settled = 0, least; bool h[T], known[T]; byte floor[T]; bool first = true; byte n;
end: do
    :: n = ended;
#ifdef SWAPPED
       holders(); atomic { newestVisible() };
#else
       atomic { newestVisible() }; 
#ifndef NOLOCK
       holders();
#endif
#endif
       atomic { least = m; i = 0;
         do :: i < T ->
               if :: h[i] && !known[i] -> known[i] = true;
#ifdef NOWFLOOR
                     floor[i] = m
#else
                     floor[i] = (first -> 0 : prev)
#endif
                  :: else fi;
               if :: !h[i] -> known[i] = false :: else fi;
               if :: h[i] && floor[i] < least -> least = floor[i] :: else fi; i++
            :: else -> break od;
         if :: least > settled -> settled = least :: else fi;
         if :: m > prev -> prev = m :: else fi; first = false };
       atomic { i = pos + 1;
         do :: i <= settled && i < N -> if :: visible[i] -> sent[i]++; assert(sent[i] <= 1) :: else fi; i++ :: else -> break od;
         if :: settled > pos -> pos = settled :: else fi };
       if :: n == T -> break :: else fi
    od;
    atomic { i = 1; do :: i < N -> assert(!committed[i] || sent[i] == 1); i++ :: else -> break od }
}
init { byte t; atomic { t = 0; do :: t < T -> run Writer(t); t++ :: else -> break od; run Reader() } }
