// The page beside a gateway that has answered five hundred requests of all
// kinds: what it shows is what log, metrics and API say.

import { api, day, done, equal, hangUp, launch, ok, open, signIn }
    from './lib.mjs';

const browser = await launch();
const { page } = await open(browser);

await signIn(page);

for (const by of ['team', 'model']) {
    const wanted = (await api(day(by))).json;

    // of these the caller has tested that the log says the same
    ok(wanted.total.requests >= Number(process.env.SUMS_REQUESTS),
       `by ${by}: all requests are there`, wanted.total.requests);

    await equal(page, by, wanted);
}

await browser.close();
hangUp();
done();
