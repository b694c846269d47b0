'use strict';
// The program of the agent's dry run.
