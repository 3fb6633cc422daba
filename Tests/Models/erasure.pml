/* The sessions of ONE client, which is erased at gateway A while A may not reach Valkey; B may. Memory.erase, Erasures,
 * ErasureRepository. Sessions are nowhere but in Valkey: 1 is of before the erasure, 2 was written after its answer.
 *   owed, taken     the row of memory_erasures, and its lease
 *   lookValid[g]    gateway g's last look at the rows began less than `Erasures.life` ago; known[g] is what it saw
 * Properties: whoever begins to read after the answer is served nothing of before; what is written after it stays.
 * Wrong on purpose: NOWAIT (A answers at once when it could not erase), NOLEASE (two remove at the same time),
 *                   NOROW (nothing is owed: as it was). */
bool owed = false, taken = false, committed = false, answered = false, cut, lost = false;
byte sess = 1, done = 0;
bool lookValid[2], lookOld[2], lookRuns[2], lookRunsOld[2], known[2];

inline remove() { if :: sess == 2 -> lost = true :: else fi; assert(!lost); sess = 0 }
proctype Erase() {
    atomic { committed = true;
#ifndef NOROW
      owed = true; taken = true;
#endif
      lookOld[0] = lookValid[0]; lookOld[1] = lookValid[1]; lookRunsOld[0] = lookRuns[0]; lookRunsOld[1] = lookRuns[1] };
    if :: !cut -> remove(); atomic { owed = false; taken = false }
       :: cut -> atomic { taken = false };                                 /* putBack */
#ifndef NOWAIT
          atomic { !(lookValid[0] && lookOld[0]) && !(lookValid[1] && lookOld[1]) ->       /* Erasures.life has passed */
            lookRuns[0] = (lookRunsOld[0] -> false : lookRuns[0]); lookRuns[1] = (lookRunsOld[1] -> false : lookRuns[1]) }
#endif
    fi;
    answered = true; done++
}
#ifdef NOLEASE
#define CLAIMABLE owed
#else
#define CLAIMABLE (owed && !taken)
#endif
proctype Worker(byte g) {
end: do
    :: atomic { CLAIMABLE && (g == 1 || !cut) -> taken = true };
       remove();
       atomic { owed = false; taken = false }
    od
}
proctype Look(byte g) { bool saw;
end: do
    :: atomic { !lookRuns[g] && !lookValid[g] && done < 5 -> lookRuns[g] = true; lookRunsOld[g] = false; saw = owed };
       atomic { if :: lookRuns[g] -> lookValid[g] = true; lookOld[g] = lookRunsOld[g]; known[g] = saw; lookRuns[g] = false :: else fi }
    :: atomic { lookValid[g] -> lookValid[g] = false }                     /* its time is over */
    od
}
/* Erasures.admit, then the call. */
inline admit(g) {
    if :: atomic { lookValid[g] && !known[g] -> isIn = true }
       :: atomic { lookValid[g] && known[g] || !lookValid[g] -> isIn = !owed } fi   /* looks again */
}
proctype Read(byte g) { bool want, isIn; atomic { want = answered };
    admit(g);
    if :: isIn -> atomic { assert(!(want && sess == 1)) } :: else fi; done++ }
proctype Write(byte g) { bool isIn; answered;
    admit(g);
    if :: isIn -> sess = 2 :: else fi; done++ }
init { atomic { if :: cut = true :: cut = false fi;
    run Erase(); run Worker(0); run Worker(1); run Look(0); run Look(1); run Read(0); run Read(1); run Write(0); run Write(1) } }
